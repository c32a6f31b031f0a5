"""What can happen to files, and to the official data sets while they are prepared."""


def flip(path, at):
    """Change a byte."""
    data = bytearray(path.read_bytes())
    data[at] ^= 0xFF
    path.write_bytes(data)


def truncate(path):
    """Lose the second half."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
