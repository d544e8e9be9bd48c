# lsap-jax on a CPU, or with EXTRAS=cuda on NVIDIA GPUs: CUDA comes with jax, the driver from the host.
#
#   docker build -t lsap_jax .
#   docker run --rm -v "$PWD:/work" lsap_jax demo --out demo-out
#   docker build --build-arg EXTRAS=cuda -t lsap_jax:cuda .
#   docker run --rm --gpus all -v "$PWD:/work" lsap_jax:cuda invert photos --generator ffhq.safetensors --out runs/photos
#
# Files are written by the user with id UID (1000); --user chooses another. Compiled programs and directions that were
# found are kept in the volume /cache.

ARG PYTHON=3.12

FROM python:${PYTHON}-slim AS wheel
WORKDIR /source
COPY . .
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python:${PYTHON}-slim
ARG EXTRAS=""
ARG UID=1000
COPY --from=wheel /wheels /wheels
# hadolint ignore=DL3013
RUN wheel="$(ls /wheels/*.whl)" \
    && pip install --no-cache-dir "${wheel}${EXTRAS:+[${EXTRAS}]}" \
    && rm -r /wheels \
    && useradd --create-home --uid "${UID}" user \
    && install --directory --owner user --mode 1777 /cache /work
USER ${UID}
ENV XDG_CACHE_HOME=/cache PYTHONUNBUFFERED=1
VOLUME /cache
WORKDIR /work
ENTRYPOINT ["lsap-jax"]
CMD ["--help"]
