# The main job in a container: the whole of 2026.1 for Debian 12, as a signed apt repository.
#
#   docker build -t build-debs .
#   docker run --rm -v "$PWD/repo:/srv/build-debs/repo" -v build-debs:/root build-debs
#
# The second volume keeps the signing key and the caches. To run another job, name it at the end:
#   docker run … build-debs build-debs 2026.1 --project keystone
#
# The base image must be a Debian that is a target of the series.
ARG BASE=debian:12
FROM ${BASE}

# A package index and certificate authorities other than the default ones.
ARG PIP_INDEX_URL
ARG UV_DEFAULT_INDEX
ARG PIP_CERT
ARG SSL_CERT_FILE
ARG REQUESTS_CA_BUNDLE

ENV DEBIAN_FRONTEND=noninteractive \
    PATH=/srv/build-debs/.venv/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin

RUN apt-get update \
 && apt-get install -y --no-install-recommends ca-certificates make \
 && rm -rf /var/lib/apt/lists/*

WORKDIR /srv/build-debs
COPY . .
RUN make tools && rm -rf /var/lib/apt/lists/*

CMD ["make", "repo"]
