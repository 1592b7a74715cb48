"""minires without an installation: the playground, which runs it in the browser, and the book.

`build_site` writes a folder that any web server can serve; `python -m minires site` calls it. Python itself comes from
Pyodide (CPython compiled to WebAssembly) and runs in a Web Worker of the reader's browser: nothing is sent anywhere.

    build.py       the folder: pages, wheels, Pyodide, book
    pyodide.py     the pinned release of Pyodide and the hashes of its files
    wheels.py      minires and what it imports, packed for the browser
    book.py        the tutorials, derivations and reference as a Sphinx book
    serve.py       a server for one's own machine
    playground.py  what runs in the browser: somebody's code, and the check of their backward
    figures.py     matplotlib's backend there
    static/        the pages, their style and scripts; editor/ builds the one bundle, CodeMirror
    examples/      the programs that the playground offers
"""

from minires.site.build import SiteError, build_site

__all__ = ["SiteError", "build_site"]
