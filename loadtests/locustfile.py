"""For plain locust: `locust -f loadtests/locustfile.py --host http://127.0.0.1:8080 --model chat`.

With the web UI or `--headless -u 8 -t 60s`. The key comes from the environment variable
FREEHOLD_API_KEY. `freehold load` runs the same users and adds the report and the verdict.
"""

from freehold.load.users import LoadUser


class ChatUser(LoadUser):
    """Chat, multi-turn; `--input-tokens` makes independent prompts of that length instead."""
