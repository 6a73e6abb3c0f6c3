"""Programs of lmxd on machines that are not here: their kernel files, NVML's and the drivers' answers are played."""
