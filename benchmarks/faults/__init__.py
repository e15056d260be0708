"""What becomes of a download when everything goes wrong: tlhub beside other clients."""
