"""The application that is served: the API and the pages, and the process in which agents work beside them."""
