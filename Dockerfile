# The bot in a container: everything it writes goes to /data, so its root may be read-only.
#
#   docker build -t gpt2-discord-bot .                        for a CPU
#   docker build -t gpt2-discord-bot --build-arg TORCH=cuda . for a GPU (several GB more)
#   docker build -t gpt2-discord-bot --build-arg EXTRAS=cluster .  with Ray (docs/cluster.md)
#
# TORCH is `cuda` (the build of torch that Linux gets by default), or a backend as uv names them:
# cpu, cu130, … See docs/operating.md.

ARG PYTHON=3.12

FROM python:${PYTHON}-slim AS build
ARG TORCH=cpu
ARG EXTRAS=
ENV UV_COMPILE_BYTECODE=1 UV_LINK_MODE=copy UV_NO_CACHE=1 UV_PYTHON_DOWNLOADS=never
RUN pip install --no-cache-dir "uv>=0.9,<1"
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY i18n i18n
COPY core core
COPY data data
COPY model model
COPY training training
COPY bot bot
RUN uv venv /opt/gpt2bot \
    && if [ "$TORCH" != cuda ]; then export UV_TORCH_BACKEND="$TORCH"; fi \
    && uv pip install --python /opt/gpt2bot/bin/python ".${EXTRAS:+[$EXTRAS]}"

FROM python:${PYTHON}-slim
RUN groupadd --system --gid 10001 gpt2bot \
    && useradd --system --uid 10001 --gid gpt2bot --home-dir /data --no-create-home gpt2bot \
    && install --directory --owner=gpt2bot --group=gpt2bot --mode=0700 /data
COPY --from=build /opt/gpt2bot /opt/gpt2bot
ENV PATH=/opt/gpt2bot/bin:$PATH \
    GPT2BOT_HOME=/data \
    HF_HOME=/data/huggingface \
    HEALTH_PORT=8080 \
    MPLCONFIGDIR=/tmp/matplotlib \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
USER 10001:10001
WORKDIR /data
VOLUME /data
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=10s --start-period=5m CMD ["gpt2bot", "health"]
ENTRYPOINT ["gpt2bot"]
CMD ["run"]
