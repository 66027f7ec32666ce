"""`hindcast new`: from a folder of files to a domain and a problem, written as a person would write them."""
