#!/bin/sh
# Makes apt on this machine use the packages of OpenStack 2026.1 (Gazpacho) for Debian bookworm.
#
#   sh bookworm-2026.1.sh URL     URL: the directory this file was fetched from,
#                                 http://..., https://... or file:/...
#   sh bookworm-2026.1.sh         the same with http://repository.example.org/openstack/
#
# Run as root. It writes two files, readable by all whatever the umask, and nothing else:
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

# Say which other file of apt's sources has the suite: it must not be there twice, because
# apt refuses two sources of one suite whose keys differ.
named() {
	for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources; do
		[ -e "$file" ] && [ "$file" != "$source" ] || continue
		if grep -Eq '^([^#]*[[:space:]])?bookworm-2026[.]1([[:space:]]|$)' "$file"; then
			echo "$file"
			return
		fi
	done
}

[ $# -le 1 ] || fail "one argument at most: the address of the repository"
url=${1-http://repository.example.org/openstack/}
if [ -z "$url" ]; then
	here=$(cd "$(dirname "$0")" && pwd)
	[ -e "$here/dists/bookworm-2026.1/InRelease" ] ||
		fail "give the address of the repository: sh bookworm-2026.1.sh http://..."
	url=file:$(printf %s "$here" | sed 's/%/%25/g; s/ /%20/g')
fi
case $url in
*[[:space:]]*) fail "an address has no blanks (write %20): $url" ;;
http://?* | https://?* | file:/*) ;;
*) fail "not an address apt can use (http://..., https://..., file:/...): $url" ;;
esac
[ "$(id -u)" -eq 0 ] || fail "run this as root"
other=$(named)
[ -z "$other" ] || fail "$other has bookworm-2026.1 already; remove it there first"

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
	echo "the former $source is now $source.save"
fi
mv "$source.new" "$source"
echo "apt uses $url; now: apt update && apt install openstack-2026.1-archive"
