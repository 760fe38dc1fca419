"""Small films, made by PyAV in the tests, and a camera on 127.0.0.1."""

import io
import socketserver
import struct
import threading
import time
from fractions import Fraction
from http.server import BaseHTTPRequestHandler

import av
import numpy as np
from PIL import Image

from video.fakes import picture


def write_clip(path, frames, *, fps=30, times=None, codec="libx264", form=None, pixels=None):
    """Write pictures as a film; `times` in seconds, one a picture."""
    frames = list(frames)
    height, width = frames[0].shape[:2]
    with av.open(str(path), "w", format=form) as container:
        stream = container.add_stream(codec, rate=fps, options={"qp": "0"} if "264" in codec else {})
        stream.width, stream.height = width, height
        stream.pix_fmt = pixels or ("yuv444p" if codec == "libx264" else "yuvj420p")
        if times is not None:
            stream.time_base = stream.codec_context.time_base = Fraction(1, 1000)
        for number, image in enumerate(frames):
            shown = av.VideoFrame.from_ndarray(image, format="rgb24")
            if times is not None:
                shown.pts, shown.time_base = round(times[number] * 1000), Fraction(1, 1000)
            container.mux(stream.encode(shown))
        container.mux(stream.encode(None))
    return path


def turn_clip(path):
    """Write into an MP4 that it is to be shown turned by a quarter clockwise, as telephones do."""
    data = bytearray(path.read_bytes())
    header = data.index(b"tkhd") + 4
    matrix = header + 4 + (32 if data[header] == 1 else 20) + 16
    one = 1 << 16
    data[matrix : matrix + 36] = struct.pack(">9i", 0, one, 0, -one, 0, 0, 120 * one, 0, 1 << 30)
    path.write_bytes(data)
    return path


def walking(count, *, width=160, height=120):
    return [picture((10 + i, 40, 40, 5, 0), width=width, height=height) for i in range(count)]


class Camera:
    """Serves MJPEG over HTTP, as network cameras do; each connection gets its own list of pictures.

    Args:
        connections: For each connection the pictures, then what happens: "end" or "stall". After the last: refused.
    """

    def __init__(self, *connections, every_s=0.005):
        waiting, lock = list(connections), threading.Lock()
        self.closing = closing = threading.Event()

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                with lock:
                    todo = waiting.pop(0) if waiting else None
                if todo is None:
                    self.send_error(503)
                    return
                pictures, then = todo
                self.send_response(200)
                self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
                self.end_headers()
                for image in pictures:
                    data = io.BytesIO()
                    Image.fromarray(np.asarray(image)).save(data, "JPEG", quality=95, subsampling=0)
                    head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {data.tell()}\r\n\r\n"
                    try:
                        self.wfile.write(head.encode() + data.getvalue() + b"\r\n")
                    except OSError:
                        return
                    time.sleep(every_s)
                if then == "stall":
                    closing.wait(10)

            def log_message(self, *_):
                pass

        class Server(socketserver.ThreadingMixIn, socketserver.TCPServer):
            allow_reuse_address = daemon_threads = True

        self.server = Server(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server.server_address[1]}/stream"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.closing.set()
        self.server.shutdown()
        self.server.server_close()


class RtspCamera:
    """Serves H.264 over RTSP, interleaved in TCP, to each client from the first picture on, then closes.

    As much of RFC 2326 and RFC 6184 as a client asks for: OPTIONS, DESCRIBE, SETUP, PLAY; single units and FU-A.
    """

    def __init__(self, pictures, *, every_s=0.02):
        units = list(_units(pictures))

        class Handler(socketserver.StreamRequestHandler):
            def handle(self):
                while (request := self._request()) is not None:
                    method, number = request
                    extra, body = {
                        "DESCRIBE": ("Content-Type: application/sdp\r\n", _SDP),
                        "SETUP": ("Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n", ""),
                    }.get(method, ("Public: OPTIONS, DESCRIBE, SETUP, PLAY\r\n", ""))
                    head = f"RTSP/1.0 200 OK\r\nCSeq: {number}\r\nSession: 1\r\n{extra}"
                    self.wfile.write(f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode())
                    if method == "PLAY":
                        self._play()
                        return

            def _request(self):
                lines = []
                while (line := self.rfile.readline().decode().strip()) or not lines:
                    if not line:
                        return None
                    lines.append(line)
                number = next(line.split(":")[1].strip() for line in lines if line.lower().startswith("cseq"))
                return lines[0].split()[0], number

            def _play(self):
                sequence = 0
                for time_s, of_picture in units:
                    for place, unit in enumerate(of_picture):
                        for payload, ends in _payloads(unit):
                            last = ends and place == len(of_picture) - 1
                            head = struct.pack(
                                ">BBHII", 0x80, 96 | 128 * last, sequence % 65536, round(time_s * 90000), 1
                            )
                            packet = head + payload
                            try:
                                self.wfile.write(struct.pack(">cBH", b"$", 0, len(packet)) + packet)
                            except OSError:
                                return
                            sequence += 1
                    time.sleep(every_s)

        class Server(socketserver.ThreadingMixIn, socketserver.TCPServer):
            allow_reuse_address = daemon_threads = True

        self.server = Server(("127.0.0.1", 0), Handler)
        self.address = f"rtsp://ada:secret@127.0.0.1:{self.server.server_address[1]}/live"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True)

    __enter__ = Camera.__enter__

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()


_SDP = "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\nm=video 0 RTP/AVP 96\r\n" + (
    "a=rtpmap:96 H264/90000\r\na=fmtp:96 packetization-mode=1\r\na=control:track1\r\n"
)


def _units(pictures):
    """Encode pictures; yield each one's time and NAL units."""
    codec = av.CodecContext.create("libx264", "w")
    codec.width, codec.height, codec.pix_fmt = pictures[0].shape[1], pictures[0].shape[0], "yuv420p"
    codec.time_base = Fraction(1, 30)
    codec.options = {
        "preset": "ultrafast",
        "tune": "zerolatency",
        "g": "10",
        "x264-params": "repeat-headers=1:annexb=1",
    }
    shots = [av.VideoFrame.from_ndarray(image, format="rgb24") for image in pictures]
    for number, shot in enumerate(shots):
        shot.pts, shot.time_base = number, Fraction(1, 30)
    for number, packet in enumerate(packet for shot in [*shots, None] for packet in codec.encode(shot)):
        parts = bytes(packet).replace(b"\0\0\0\1", b"\0\0\1").split(b"\0\0\1")
        yield number / 30, [part for part in parts if part]


def _payloads(unit, most=1200):
    """Split a unit as RTP carries it; yield each part, and whether it is the last."""
    if len(unit) <= most:
        yield unit, True
        return
    kind, parts = unit[0], [unit[i : i + most] for i in range(1, len(unit), most)]
    for place, part in enumerate(parts):
        ends = place == len(parts) - 1
        yield bytes([(kind & 0xE0) | 28, (kind & 0x1F) | (128 * (place == 0)) | (64 * ends)]) + part, ends
