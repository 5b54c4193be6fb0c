"""Sends spans over OTLP. Needs the `otel` extra."""

from importlib.metadata import version

from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from millstream.config import Environment
from millstream.config.schema import OtelConfig

EXPORT_SECONDS_MAX = 5.0


def make_provider(config: OtelConfig, environment: Environment) -> TracerProvider:
    """Return what collects spans and sends them from a thread of its own to `config.endpoint`."""
    endpoint = config.endpoint
    provider = TracerProvider(resource=make_resource(config, environment), shutdown_on_exit=False)
    exporter = OTLPSpanExporter(
        endpoint=endpoint,
        insecure=endpoint is not None and endpoint.startswith("http://"),
        timeout=EXPORT_SECONDS_MAX,
    )
    provider.add_span_processor(BatchSpanProcessor(exporter))
    return provider


def make_resource(config: OtelConfig, environment: Environment) -> Resource:
    """Return what every span of this service says of it."""
    pod = {
        "k8s.pod.name": config.pod_name,
        "k8s.namespace.name": config.pod_namespace,
        "k8s.pod.ip": config.pod_ip,
    }
    return Resource.create(
        {
            **{name: value for name, value in pod.items() if value is not None},
            **dict(config.resource_attributes),
            "service.name": config.service_name,
            "service.version": version("millstream"),
            "deployment.environment": config.environment or environment.value,
        }
    )
