"""The machines that train: a Celery app, and the supervision of training processes."""
