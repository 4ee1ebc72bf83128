"""Service packages: a release tarball and a project file become a Debian source package."""
