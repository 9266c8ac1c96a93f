"""Every method, one module each, behind one registry."""
