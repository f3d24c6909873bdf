# syntax=docker/dockerfile:1
#
#   docker build -t trainfit .
#   docker run --rm -p 127.0.0.1:8000:8000 -v trainfit:/data trainfit
#
# torch comes from the index that pip is set to, which on x86-64 carries its CUDA build. For a far smaller image without
# it, or for ROCm or XPU, name the index that PyTorch's install page gives: --build-arg TORCH_INDEX=<address>

FROM python:3.11-slim AS build
ARG TORCH_INDEX=""
WORKDIR /source
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY planner planner
COPY app app
COPY templates templates
COPY static static
COPY docs/methodology.md docs/methodology.md
COPY docs/accuracy.md docs/accuracy.md
COPY docs/glossary.md docs/glossary.md
RUN python -m venv /opt/trainfit
ENV PIP_NO_CACHE_DIR=1
RUN <<'SCRIPT'
set -eu
cp constraints.txt chosen.txt
if [ -n "$TORCH_INDEX" ]; then
    # torch's version is that index's own.
    grep -v '^torch==' constraints.txt > chosen.txt
    /opt/trainfit/bin/pip install --index-url "$TORCH_INDEX" torch
fi
/opt/trainfit/bin/pip install --constraint chosen.txt --upgrade pip hatchling
/opt/trainfit/bin/pip install --constraint chosen.txt --no-build-isolation .
SCRIPT

FROM python:3.11-slim
RUN useradd --system --uid 10001 --create-home trainfit && install -d -o trainfit -g trainfit /data
COPY --from=build /opt/trainfit /opt/trainfit
ENV PATH=/opt/trainfit/bin:$PATH PYTHONUNBUFFERED=1
USER trainfit
VOLUME /data
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s \
    CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:8000/livez', timeout=2)"]
CMD ["trainfit", "serve", "--host", "0.0.0.0", "--data-dir", "/data"]
