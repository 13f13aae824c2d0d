"""How people sign in with a browser: our rules on top of allauth, which brings the pages and the protocols."""
