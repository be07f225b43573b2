# An image with roe-batch in it and nothing else: no shell, no libraries, nobody to become. It runs as
# nobody in particular and needs no file system to write to but the volume of the ledger.
#
#     docker build -t roe-batch .
#
# README.md, "In a container", says how it is run.

# Debian's C library finds names by itself since 2.34, so that a static program can use it.
FROM rust:1.95-slim-bookworm AS build
WORKDIR /source
COPY . .
# With its target named, cargo leaves build scripts and macros, which cannot be static, as they are.
RUN target="$(rustc -vV | sed -n 's/^host: //p')" \
    && RUSTFLAGS='-C target-feature=+crt-static' \
        cargo build --locked --release --bin roe-batch --target "$target" \
    && install -D "target/$target/release/roe-batch" /image/usr/local/bin/roe-batch \
    && install -d -o 65532 -g 65532 /image/batch

FROM scratch
COPY --from=build /image /
ENV PATH=/usr/local/bin
USER 65532:65532
WORKDIR /batch
ENTRYPOINT ["/usr/local/bin/roe-batch"]
