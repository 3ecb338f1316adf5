"""`python -m zora_core.cli` is `zora`."""

from zora_core.cli.interrupts import main

if __name__ == "__main__":
    main()
