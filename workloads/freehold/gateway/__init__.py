"""The one door: an Envoy configuration builder for laptop and cluster, and the endpoint picker."""
