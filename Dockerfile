# One image for every process of the platform: skep-api, skep-dbnode, skep-worker and the command line.
#
#   make image                     (finds a base where none can be pulled, and tells the build of this machine's own authorities)
#   docker run --rm skep skep --help
#
# Build arguments: BASE; MIRROR and SECURITY_MIRROR, if apt shall use others than the base; INDEX_URL, where
# pip finds packages; CA, the text of certificates to be trusted while it is made; http_proxy, https_proxy
# and no_proxy, which every build knows by itself. Where no registry answers, runtimes/base-image.sh makes
# the base. Of the build stage only the installed environment gets into the image.
ARG BASE=debian:bookworm-slim

FROM ${BASE} AS python
ARG MIRROR=
ARG SECURITY_MIRROR=
RUN set -eu; \
    if [ -n "$MIRROR" ]; then \
      . /etc/os-release; \
      rm -f /etc/apt/sources.list.d/*; \
      echo "deb $MIRROR $VERSION_CODENAME main" >/etc/apt/sources.list; \
      if [ -n "$SECURITY_MIRROR" ]; then \
        echo "deb $SECURITY_MIRROR $VERSION_CODENAME-security main" >>/etc/apt/sources.list; \
      fi; \
    fi; \
    apt-get update; \
    DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends python3; \
    rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/cache/debconf/*-old /var/log/*.log \
      /var/log/apt

FROM python AS build
ARG INDEX_URL=
ARG CA=
ENV PIP_CERT=/etc/ssl/certs/ca-certificates.crt PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN set -eu; \
    apt-get update; \
    DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends \
      ca-certificates python3-venv; \
    if [ -n "$CA" ]; then \
      echo "$CA" >/usr/local/share/ca-certificates/skep-build.crt; \
      update-ca-certificates; \
    fi
# What it depends on changes seldom, and is a layer of its own.
COPY setup.cfg /build/
RUN set -eu; \
    python3 -m venv /opt/skep; \
    python3 -c 'import configparser; c = configparser.ConfigParser(); c.read("/build/setup.cfg"); print(c["options"]["install_requires"])' \
      >/tmp/requirements.txt; \
    /opt/skep/bin/pip install --quiet ${INDEX_URL:+--index-url "$INDEX_URL"} \
      'setuptools>=68' wheel --requirement /tmp/requirements.txt
COPY . /build/
RUN set -eu; \
    /opt/skep/bin/pip install --quiet --no-deps --no-build-isolation --no-index /build; \
    /opt/skep/bin/pip uninstall --quiet --yes setuptools wheel pip; \
    rm -f /opt/skep/bin/activate* /opt/skep/bin/Activate.ps1; \
    /opt/skep/bin/skep --version

FROM python
RUN useradd --key UID_MAX=65533 --uid 65531 --user-group --no-create-home --home-dir /data \
      --shell /usr/sbin/nologin skep; \
    install --directory --owner skep --group skep --mode 0711 /data
COPY --from=build /opt/skep /opt/skep
COPY deploy/entrypoint.sh /usr/local/bin/skep-entrypoint
COPY deploy/healthy.py /usr/local/bin/skep-healthy
RUN chmod 755 /usr/local/bin/skep-entrypoint /usr/local/bin/skep-healthy
ENV PATH=/opt/skep/bin:/usr/local/bin:/usr/bin:/bin SKEP_DATA=/data HOME=/data \
    PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
# An engine can mount a volume into sandboxes too, which it could not do with a container's own layer.
VOLUME /data
WORKDIR /data
# By number, and another one than that of sandboxes (65532): whom files belong to could list them.
USER 65531:65531
ENTRYPOINT ["skep-entrypoint"]
CMD ["skep", "--help"]
