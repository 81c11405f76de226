"""From CAN to kept frames: buses, logs, the recorder. No ssl, no paho, no internet sockets."""
