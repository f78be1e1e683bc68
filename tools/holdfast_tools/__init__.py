"""What Holdfast calls: downstreams, their catalog and schemas, and the pipeline that runs a call."""
