"""The doctor's web console: pages for people, over TCP, served by the gateway's own process."""
