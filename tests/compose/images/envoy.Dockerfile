# Envoy in the ways of the official image.
FROM flaghoist-test/debian
COPY envoy /usr/local/bin/envoy
USER nobody
ENTRYPOINT ["envoy"]
