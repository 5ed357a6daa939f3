# Where the Dockerfile of flaghoist builds: a C compiler, certificates, and the toolchain of this machine.
FROM flaghoist-test/debian
RUN apt-get update -q && apt-get install -q -y --no-install-recommends ca-certificates gcc libc6-dev && rm -rf /var/lib/apt/lists/*
COPY rust /usr/local
COPY certificates.crt /etc/ssl/certs/ca-certificates.crt
