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
