"""The code that connects Keyhole to Celery, and that runs in the processes of a worker."""
