"""Service packages: from a release tarball and a project file to a Debian source package."""
