#!/bin/sh
# Sets up apt on this machine to use OpenStack 2026.1 (Gazpacho) packages for Debian bookworm.
#
#   sh bookworm-2026.1.sh URL     URL: the directory this file was fetched from,
#                                 http://..., https://... or file:/...
#   sh bookworm-2026.1.sh         the same with http://repository.example.org/openstack/
#
# Run it as root. It writes these two files, readable by everyone whatever the umask, and no others:
#
#   /usr/share/keyrings/openstack-2026.1-archive-keyring.asc
#   /etc/apt/sources.list.d/openstack-2026.1.sources
#
# The package openstack-2026.1-archive keeps them up to date afterwards.
set -eu
umask 022

keyring=/usr/share/keyrings/openstack-2026.1-archive-keyring.asc
source=/etc/apt/sources.list.d/openstack-2026.1.sources

fail() { # MESSAGE
	echo "bookworm-2026.1.sh: $1" >&2
	exit 1
}

# Print which other file of apt's sources lists the suite: it must not be listed twice, because
# apt refuses two sources for the same suite with different keys.
named() {
	for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources; do
		[ -e "$file" ] && [ "$file" != "$source" ] || continue
		if grep -Eq '^([^#]*[[:space:]])?bookworm-2026[.]1([[:space:]]|$)' "$file"; then
			echo "$file"
			return
		fi
	done
}

[ $# -le 1 ] || fail "expected at most one argument: the address of the repository"
url=${1-http://repository.example.org/openstack/}
if [ -z "$url" ]; then
	here=$(cd "$(dirname "$0")" && pwd)
	[ -e "$here/dists/bookworm-2026.1/InRelease" ] ||
		fail "give the address of the repository: sh bookworm-2026.1.sh http://..."
	url=file:$(printf %s "$here" | sed 's/%/%25/g; s/ /%20/g')
fi
case $url in
*[[:space:]]*) fail "the address contains a space (write it as %20): $url" ;;
http://?* | https://?* | file:/*) ;;
*) fail "not an address apt can use (http://..., https://..., file:/...): $url" ;;
esac
[ "$(id -u)" -eq 0 ] || fail "run this as root"
other=$(named)
[ -z "$other" ] || fail "$other already lists bookworm-2026.1; remove it there first"

mkdir -p "${keyring%/*}" "${source%/*}"
cat >"$keyring.new" <<'KEY'
-----BEGIN PGP PUBLIC KEY BLOCK-----

bm90IGEga2V5
-----END PGP PUBLIC KEY BLOCK-----
KEY
mv "$keyring.new" "$keyring"
cat >"$source.new" <<SOURCE
# OpenStack 2026.1 (Gazpacho) for Debian bookworm
Types: deb deb-src
URIs: $url
Suites: bookworm-2026.1
Components: main
Architectures: amd64
Signed-By: /usr/share/keyrings/openstack-2026.1-archive-keyring.asc
SOURCE
if [ -e "$source" ] && ! cmp -s "$source" "$source.new"; then
	mv "$source" "$source.save"
	echo "saved the former $source as $source.save"
fi
mv "$source.new" "$source"
echo "apt now uses $url; next: apt update && apt install openstack-2026.1-archive"
