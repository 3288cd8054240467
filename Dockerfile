# Two images from one file: `web` (pages, API, streams, and the scheduler; no torch) and `worker` (trains).
FROM python:3.11-slim-bookworm AS base
ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 \
    POLM_VAR=/var/lib/polm HF_HOME=/var/lib/polm/hub
RUN useradd --uid 10001 --create-home polm \
    && install -d -o polm -g polm /var/lib/polm /srv/artifacts
WORKDIR /app
COPY webapp/requirements.txt webapp/requirements.txt
RUN pip install -r webapp/requirements.txt

FROM base AS base-worker
COPY workers/requirements.txt workers/requirements-no-deps.txt workers/requirements-gguf.txt workers/
RUN pip install -r workers/requirements.txt \
    && pip install --no-deps -r workers/requirements-no-deps.txt \
    && pip install --no-deps --target "$(python -c 'import sys; print(sys.prefix)')/gguf-converter" \
        -r workers/requirements-gguf.txt

FROM base AS web
COPY . .
# The key signs nothing here: settings only need one to load.
RUN SECRET_KEY=build POLM_VAR=/tmp/build python manage.py collectstatic --noinput && rm -r /tmp/build
USER polm
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=6s --start-period=60s CMD ["python", "-m", "webapp.studio.alive", "web"]
CMD ["python", "manage.py", "studio", "--web-only", "--no-embedded", "--host", "0.0.0.0", "--port", "8000"]

FROM base-worker AS worker
COPY . .
USER polm
HEALTHCHECK --interval=10s --timeout=6s --start-period=60s CMD ["python", "-m", "webapp.studio.alive", "worker"]
CMD ["python", "manage.py", "studio", "--worker-only", "--no-embedded"]
