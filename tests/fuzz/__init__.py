"""Every parser of the census as a function of bytes, fed by fuzzers: `make fuzz`, and in short by `tests/test_fuzz.py`.

harnesses   what must hold whatever the bytes are
__main__    the coverage-guided runs
"""
