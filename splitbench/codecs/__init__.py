"""Codecs: how the tensors of one example become the bytes that leave the device.

``Float32``, ``Float16``, ``Uniform``, ``TopK`` and ``ChannelSubset`` carry the tensors of any cut;
``RawImage`` and ``Jpeg`` carry the image itself, for the cut "input". All share one message format
(``container``).
"""
