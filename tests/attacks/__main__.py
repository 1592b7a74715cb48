"""`python -m tests.attacks [NAME [COUNT [SEED]]]`: exit code 1 where anything got through."""

import importlib
import sys
import time

SIZES = {"calls": 24_000, "command_lines": 500, "damaged_files": 2_400, "kills": 120, "pairs": 20}


def main(arguments):
    names = arguments[:1] or list(SIZES)
    if unknown := set(names) - set(SIZES):
        sys.exit(f"there is no attack {', '.join(unknown)}; there are {', '.join(SIZES)}")
    seed = int(arguments[2]) if len(arguments) > 2 else 0
    failed = 0
    for name in names:
        count = int(arguments[1]) if len(arguments) > 1 else SIZES[name]
        started = time.perf_counter()
        table, wrong = importlib.import_module(f"tests.attacks.{name}").attack(count, seed)
        print(f"\n## {name}: seed {seed}, {time.strftime('%Y-%m-%d')}, {time.perf_counter() - started:.0f} s\n")
        print(table)
        for line in wrong[:40]:
            print(f"- {line}")
        print(f"\n{len(wrong)} wrong", flush=True)
        failed += bool(wrong)
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
