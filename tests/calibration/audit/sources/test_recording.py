"""Images in recordings."""

import base64
import json

import numpy as np
import pytest

pytest.importorskip("mcap_ros2")
pytest.importorskip("mcap_protobuf")

from cfcam.calibration.audit.errors import AuditError
from cfcam.calibration.audit.sources.recording import Recording
from photo_sources import make_recording, pixels, png

FILE, RAW, TEXT = "sensor_msgs/msg/CompressedImage", "sensor_msgs/msg/Image", "std_msgs/msg/String"


def raw(image, encoding="rgb8", pad=0):
    height, width = image.shape[:2]
    lines = np.pad(image.reshape(height, -1), ((0, 0), (0, pad)))
    data = lines.tobytes()
    shape = {"height": height, "width": width, "step": lines.shape[1]}
    return shape | {"encoding": encoding, "is_bigendian": 0, "data": data}


def test_images_of_ros_come_from_all_topics_in_the_order_of_time(tmp_path):
    a, b = pixels(1), pixels(2)
    path = make_recording(
        tmp_path / "a.mcap",
        [
            ("/front", FILE, 3 * 10**9 + 5, {"format": "png", "data": png(a)}),
            ("/said", TEXT, 1, {"data": "hello"}),
            ("/rear", RAW, 2 * 10**9, raw(b)),
            ("/rear", RAW, 4 * 10**9, raw(b[:, :, ::-1], "bgr8", pad=3)),
            ("/rear", RAW, 4 * 10**9, raw(b[:, :, 0], "mono8")),
            ("/rear", RAW, 6 * 10**9, raw(b, "yuv422")),
            ("/rear", RAW, 7 * 10**9, raw(b) | {"height": 1000}),
        ],
    )
    recording = Recording(path)
    names = recording.names()
    times = ["/rear@2.000000000", "/front@3.000000005", *(f"/rear@{time}" for time in ("4.000000000", "4.000000000#2"))]
    times += ["/rear@6.000000000", "/rear@7.000000000"]
    assert names == [f"{path}#{time}" for time in times]
    found = list(recording.photos(set(names)))
    assert [one.name for one in found] == names
    np.testing.assert_array_equal(found[0].content, b)
    assert found[1].content == png(a)
    np.testing.assert_array_equal(found[2].content, b)
    np.testing.assert_array_equal(found[3].content, np.stack([b[:, :, 0]] * 3, axis=-1))
    assert "its pixels are yuv422" in str(found[4].error)
    assert "its message is damaged" in str(found[5].error)
    assert Recording(path, every=2).names() == [names[0], names[1], names[3], names[5]]


@pytest.mark.parametrize("encoding", ["json", "protobuf", "flatbuffer"])
def test_foxgloves_images_in_json_and_protobuf(tmp_path, encoding):
    from mcap.writer import Writer

    data = png(pixels(1))
    with (tmp_path / "a.mcap").open("wb") as file:
        writer = Writer(file)
        writer.start()
        language, schema, message = "jsonschema", b"{}", json.dumps({"data": base64.b64encode(data).decode()}).encode()
        if encoding != "json":
            language, schema, message = _protobuf(data)
        kind = writer.register_schema("foxglove.CompressedImage", language, schema)
        channel = writer.register_channel("/camera", encoding, kind)
        writer.add_message(channel, log_time=1, publish_time=1, data=message)
        writer.finish()
    recording = Recording(tmp_path / "a.mcap")
    (photo,) = recording.photos(set(recording.names()))
    if encoding == "flatbuffer":
        assert photo.error == "the recording holds it as flatbuffer with a schema in protobuf, which is not read"
    else:
        assert (photo.content, photo.error) == (data, None)


def _protobuf(data):
    from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto, FileDescriptorSet

    file = FileDescriptorProto(name="image.proto", package="foxglove", syntax="proto3")
    kind = file.message_type.add(name="CompressedImage")
    kind.field.add(
        name="data", number=2, type=FieldDescriptorProto.TYPE_BYTES, label=FieldDescriptorProto.LABEL_OPTIONAL
    )
    size = len(data)
    length = bytes([size & 127 | 128, size >> 7]) if size > 127 else bytes([size])
    return "protobuf", FileDescriptorSet(file=[file]).SerializeToString(), b"\x12" + length + data


def test_what_is_no_recording_or_has_no_images_is_refused(tmp_path):
    path = make_recording(tmp_path / "a.mcap", [("/front", FILE, 1, {"format": "png", "data": png(pixels(1))})])
    data = path.read_bytes()
    for content in (data[: len(data) // 2], data[:-20], b"no recording", b""):
        path.write_bytes(content)
        with pytest.raises(AuditError, match="cannot be read as an MCAP recording"):
            Recording(path).names()
    middle = bytearray(data)
    middle[200] ^= 255
    path.write_bytes(middle)
    with pytest.raises(AuditError, match="cannot be read as an MCAP recording"):
        Recording(path).names()
    with pytest.raises(AuditError, match="no such file"):
        Recording(tmp_path / "none.mcap").names()
    with pytest.raises(AuditError, match=r"no topic with images .*/said \(std_msgs/msg/String\)"):
        Recording(make_recording(tmp_path / "b.mcap", [("/said", TEXT, 1, {"data": "x"})])).names()
