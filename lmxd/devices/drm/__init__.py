"""AMD and Intel GPUs by the kernel's own files: sysfs, fdinfo, KFD's topology, and an ioctl of each Intel driver."""
