"""Help for tests of software that reads or writes ndx-nuclr."""
