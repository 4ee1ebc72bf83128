"""The debs stage: library packages from wheels, service packages from release tarballs."""
