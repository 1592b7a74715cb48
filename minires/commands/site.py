"""`minires site`: the playground and the book as a folder that any web server can serve."""

from __future__ import annotations

import argparse
from pathlib import Path

from minires.commands import CommandError, whole_number

HELP = "write the playground and the book as a static site, and serve it"

PORT = 8000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """--out, --pyodide, --book, --serve."""
    parser.epilog = "The book needs Sphinx: pip install 'minires[site]'. The playground needs nothing."
    parser.add_argument("--out", type=Path, default=Path("site"), metavar="DIR", help="folder to write (default: site)")
    parser.add_argument(
        "--pyodide",
        metavar="URL|FOLDER",
        help="where the browser gets Python from: an address, or a folder with an unpacked release of Pyodide, which "
        "is copied into the site so that it needs no network (default: Pyodide's content network)",
    )
    parser.add_argument(
        "--book",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="build the book, which runs every tutorial (default: yes)",
    )
    parser.add_argument(
        "--serve",
        nargs="?",
        const=PORT,
        type=whole_number(0, 65535),
        metavar="PORT",
        help=f"then serve the site on this machine (default port: {PORT}; 0 takes a free one)",
    )


def run(args: argparse.Namespace) -> int:
    from minires.site import SiteError, build_site

    source = args.pyodide
    if source is not None and not source.startswith(("http://", "https://")):
        source = Path(source)
    try:
        build_site(args.out, pyodide=source, book=args.book, told=lambda what: print(f"site: {what}", flush=True))
    except SiteError as error:
        raise CommandError(str(error)) from None
    print(f"site: written to {args.out}")
    if args.serve is not None:
        _serve(args.out, args.serve)
    return 0


def _serve(folder: Path, port: int) -> None:
    from minires.site.serve import server

    try:
        web = server(folder, port)
    except OSError as error:
        raise CommandError(f"port {port} cannot be used ({error.strerror}); name another one: --serve 8001") from None
    with web:
        print(f"site: http://localhost:{web.server_port}/  (Ctrl-C ends it)", flush=True)
        try:
            web.serve_forever()
        except KeyboardInterrupt:
            print()
