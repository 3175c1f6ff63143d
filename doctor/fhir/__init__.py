"""What leaves the system for others: FHIR R4 (4.0.1) resources, made on the way out. Nothing is stored in this form."""
