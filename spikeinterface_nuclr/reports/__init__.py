"""Reports: pages and tables that show a result, and open without a network."""
