"""Virtual instruments, one file each."""
