# One image for every service of docker-compose.yml: code servers, webserver, daemon, MLflow and the local emulator.
# A serving container alone can be smaller: --build-arg EXTRAS=ui
FROM python:3.11-slim

ARG EXTRAS=all
ENV PYTHONUNBUFFERED=1 \
    DAGSTER_DISABLE_TELEMETRY=1 \
    MLFLOW_DISABLE_TELEMETRY=true \
    ORT_DISABLE_TELEMETRY=1 \
    PIP_NO_CACHE_DIR=1 \
    DAGSTER_HOME=/opt/dagster \
    SURVEILLANCE_HOME=/var/lib/surveillance

# libgomp: XGBoost and scikit-learn load it at run time.
# A new volume takes the owner of the folder at its mount point, so every mount point of docker-compose.yml is created here.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libgomp1 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 10001 surveillance \
    && mkdir -p "$DAGSTER_HOME/storage" "$SURVEILLANCE_HOME/dagster/storage" /models /mlflow /emulator \
    && chown --recursive surveillance "$DAGSTER_HOME" "$SURVEILLANCE_HOME" /models /mlflow /emulator

WORKDIR /app
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY surveillance_pipelines ./surveillance_pipelines
# Editable: the dbt project and the package keep the places they have in a checkout.
RUN pip install --editable ".[${EXTRAS}]" --constraint constraints.txt

COPY dbt_project ./dbt_project
RUN if command -v dbt; then dbt --quiet parse --project-dir dbt_project --profiles-dir dbt_project; fi \
    && chown --recursive surveillance dbt_project
COPY workspace.yaml dagster.yaml ./
RUN cp dagster.yaml "$DAGSTER_HOME/dagster.yaml"

USER surveillance
EXPOSE 3000 4000
CMD ["dagster", "code-server", "start", "--host", "0.0.0.0", "--port", "4000", "--module-name", "surveillance_pipelines.definitions"]
