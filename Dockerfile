# The remediator. Build: docker build -t remediator:0.1.0 .
ARG PYTHON_IMAGE=python:3.11.15-slim-bookworm
ARG REDIS_IMAGE=redis:7.2.16-bookworm

FROM ${REDIS_IMAGE} AS redis

FROM ${PYTHON_IMAGE} AS build
ARG PIP_INDEX_URL
WORKDIR /src
RUN python3 -m venv /opt/venv
COPY requirements.lock requirements-build.lock pyproject.toml README.md LICENSE ./
RUN /opt/venv/bin/pip install --no-cache-dir --disable-pip-version-check --require-hashes -r requirements.lock \
 && python3 -m venv /opt/build \
 && /opt/build/bin/pip install --no-cache-dir --disable-pip-version-check --require-hashes -r requirements-build.lock
COPY docs/man docs/man
COPY remediator remediator
RUN /opt/build/bin/pip wheel -q --no-deps --no-build-isolation --wheel-dir /tmp/wheels . \
 && /opt/venv/bin/pip install --no-cache-dir --disable-pip-version-check --no-deps /tmp/wheels/*.whl \
 && rm -rf /opt/venv/lib/python3.*/site-packages/pip* \
 && find /opt/venv -name __pycache__ -prune -exec rm -rf {} + \
 && /opt/venv/bin/python3 -m compileall -q --invalidation-mode unchecked-hash /opt/venv/lib

FROM ${PYTHON_IMAGE}
ARG VERSION=0.1.0
ARG REVISION=""
LABEL org.opencontainers.image.title="remediator" \
      org.opencontainers.image.description="Runs known remedies for alerts of Alertmanager" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
# No backup is moved before one of the newest is proved to be complete. The tools are redis-server under other names,
# from the same release as the Redis in use. Tools of an older Redis, such as Debian's, cannot read the files of a newer
# one.
COPY --from=redis /usr/local/bin/redis-server /usr/local/lib/redis-server
RUN for tool in redis-check-rdb redis-check-aof; do ln -s /usr/local/lib/redis-server "/usr/local/bin/$tool"; done \
 && redis-check-rdb --version
# The image of Python has no compiled files, and the service may not write them. Each start would compile 1,000 modules,
# which takes three quarters of its time. With hashes instead of times, each build makes the same files.
RUN python3 -m compileall -q --invalidation-mode unchecked-hash -x site-packages /usr/local/lib/python3.*/
RUN install -d -o 10001 -g 10001 -m 0700 /var/lib/remediator /var/lib/remediator-checkpoints
COPY --from=build /opt/venv /opt/venv
COPY playbooks /srv/playbooks
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    REMEDIATOR_CONFIG=/etc/remediator/remediator.yaml REMEDIATOR_BUILD="${REVISION}"
WORKDIR /srv
USER 10001:10001
EXPOSE 8095
# The file system of the container may be read-only; only /var/lib/remediator is written to. For another port or HTTPS,
# set a health check where the container is started.
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s \
  CMD ["python3", "-c", "import urllib.request as web; web.urlopen('http://127.0.0.1:8095/livez', timeout=2)"]
ENTRYPOINT ["remediator"]
CMD ["serve"]
