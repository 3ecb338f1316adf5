"""The command line under the name by which the specification calls it; it lives in `zora_core.cli`."""

from zora_core.cli.interrupts import main

if __name__ == "__main__":
    main()
