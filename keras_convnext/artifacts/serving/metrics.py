"""What a server counts, in the text format of Prometheus."""

from keras_convnext._util.requirements import require

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class Metrics:
    """The counters of one server.

    Args:
        waiting: function to the number of images that are being answered.
    """

    def __init__(self, waiting):
        client = require("prometheus_client", "serving")
        self._client, self._registry = client, client.CollectorRegistry()
        # Memory, CPU time and open files, where the system tells.
        client.ProcessCollector(registry=self._registry)

        def new(kind, name, text, *labels, **options):
            return kind(
                f"keras_convnext_{name}",
                text,
                labels,
                registry=self._registry,
                **options,
            )

        self._requests = new(
            client.Counter, "requests", "Requests to /predict.", "status"
        )
        self._seconds = new(
            client.Histogram,
            "request_seconds",
            "From the head of a request to its answer.",
            buckets=SECONDS,
        )
        self._images = new(
            client.Counter, "images", "Images in requests.", "result"
        )
        self._batch_images = new(
            client.Histogram,
            "batch_images",
            "Images in each batch of the model.",
            buckets=[2**i for i in range(11)],
        )
        self._batch_seconds = new(
            client.Histogram,
            "batch_seconds",
            "Seconds of each batch in the model.",
            buckets=SECONDS,
        )
        new(
            client.Gauge, "waiting_images", "Taken, and not yet answered."
        ).set_function(waiting)

    def request(self, status, seconds):
        """Counts a request that was answered."""
        self._requests.labels(status).inc()
        self._seconds.observe(seconds)

    def image(self, is_answered):
        """Counts an image, answered or refused."""
        self._images.labels("answered" if is_answered else "refused").inc()

    def batch(self, images, seconds):
        """Counts a batch of the model."""
        self._batch_images.observe(images)
        self._batch_seconds.observe(seconds)

    def text(self):
        """All of it as bytes, and their content type."""
        content = self._client.generate_latest(self._registry)
        return content, self._client.CONTENT_TYPE_LATEST
