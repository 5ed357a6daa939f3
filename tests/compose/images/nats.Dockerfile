# NATS in the ways of the official image.
FROM flaghoist-test/debian
COPY nats-server /usr/local/bin/nats-server
USER nobody
ENTRYPOINT ["nats-server"]
