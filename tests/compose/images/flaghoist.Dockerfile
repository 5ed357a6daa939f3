# A ready program in place of the one that the Dockerfile of flaghoist would build.
FROM flaghoist-test/debian
COPY flaghoist /flaghoist
USER 65532:65532
ENTRYPOINT ["/flaghoist"]
