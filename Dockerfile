# The broker in a container: `docker build -t ringmq .`. docs/install.md says how to run it.
FROM rust:1.95-bookworm AS build
WORKDIR /source
COPY . .
RUN cargo build --release --locked --bin ringmq

FROM debian:bookworm-slim
RUN useradd --system --uid 10001 --user-group --no-create-home --shell /usr/sbin/nologin ringmq \
    && install -d -m 0700 -o ringmq -g ringmq /var/lib/ringmq /run/ringmq
COPY --from=build /source/target/release/ringmq /usr/bin/ringmq
COPY packaging/docker/ringmq.toml /etc/ringmq/ringmq.toml
USER 10001:10001
# The folder of the control socket, by which `ringmq status` finds the broker.
ENV RUNTIME_DIRECTORY=/run/ringmq
VOLUME /var/lib/ringmq
EXPOSE 1883
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=12s --start-period=60s CMD ["ringmq", "status"]
ENTRYPOINT ["ringmq"]
CMD ["--config", "/etc/ringmq/ringmq.toml"]
