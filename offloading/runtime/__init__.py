"""A placement that runs: artefacts, a server for each segment, a client on the device.

What is exported (`artefact`) is loaded by a `worker`, which a `server` or a serverless `function`
puts behind an address; the `client` runs the head, sends the release (`wire`) and says which part
of the time went where (`trace`).
"""
