# The image of all services: one static program and nothing else. Bases are arguments, so that a site without a public registry
# gives its own: BUILD_IMAGE has Rust, a C compiler and certificates, RUN_IMAGE needs nothing at all.
#
#   docker build -t flaghoist .
#   docker run --read-only -v flaghoist:/data -p 9000:9000 -p 8080:8080 flaghoist
ARG BUILD_IMAGE=rust:1.95-bookworm
ARG RUN_IMAGE=scratch

FROM ${BUILD_IMAGE} AS build
# `dev` builds faster, for a try of the image itself.
ARG PROFILE=release
WORKDIR /source
COPY . .
# With a target named, the flags are those of the program and not of what builds it.
RUN RUSTFLAGS="-C target-feature=+crt-static" cargo build --locked --package flaghoist \
        --profile "$PROFILE" --target x86_64-unknown-linux-gnu --target-dir /target \
    && mkdir -p /image/etc/ssl/certs /image/data \
    && find /target/x86_64-unknown-linux-gnu -maxdepth 2 -name flaghoist -type f -exec cp {} /image/flaghoist ';' \
    && cp /etc/ssl/certs/ca-certificates.crt /image/etc/ssl/certs/ \
    && rm -rf /target

FROM ${RUN_IMAGE}
COPY --from=build /image/flaghoist /flaghoist
COPY --from=build /image/etc /etc
# What `serve` keeps. The services of a cluster keep nothing in the image.
COPY --from=build --chown=65532:65532 /image/data /data
USER 65532:65532
EXPOSE 9000 9001 8080 8081 9464
ENTRYPOINT ["/flaghoist"]
CMD ["serve", "--data", "/data", "--grpc-addr", "0.0.0.0:9000", "--http-addr", "0.0.0.0:8080", "--metrics-addr", "0.0.0.0:9464"]
