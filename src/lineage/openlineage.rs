//! Events for other systems that follow lineage: OpenLineage run events.
