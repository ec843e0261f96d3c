"""A webhook receiver that believes only what is signed: `pip install standardwebhooks`.

QHRONOS_WEBHOOK_SECRET=whsec_... python examples/webhook_receiver.py 9000
"""

import json
import os
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from standardwebhooks import Webhook, WebhookVerificationError

seen: set[str] = set()  # keep it in your database: the same id is the same occurrence, for ever


class Receiver(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        headers = {name.lower(): value for name, value in self.headers.items()}
        try:
            Webhook(os.environ["QHRONOS_WEBHOOK_SECRET"]).verify(body.decode(), headers)
        except WebhookVerificationError:
            self.answer(401)
            return
        occurrence = json.loads(body)
        if occurrence["occurrence_id"] not in seen:
            seen.add(occurrence["occurrence_id"])
            print(f"{occurrence['name']} was due at {occurrence['scheduled_at']}", flush=True)
        self.answer(204)

    def answer(self, status: int) -> None:
        self.send_response(status)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Receiver).serve_forever()
