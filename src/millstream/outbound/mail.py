"""Sends mail through a server of the operator's."""

import ipaddress
import smtplib
import ssl
from email.message import EmailMessage
from urllib.parse import unquote, urlsplit

SECONDS_MAX = 15.0
_PORTS = {"smtp": 587, "smtps": 465}


class MailNotSent(Exception):
    """The mail could not be handed over"""


class Mailer:
    """Hands mail over to the server at `url`: `smtp://` (with TLS if it offers that) or `smtps://` (TLS at once).

    User and password in the URL are used, but never sent in the clear to another machine.
    """

    def __init__(self, url: str, *, sender: str) -> None:
        split = urlsplit(url)
        self._is_tls = split.scheme == "smtps"
        self._host = split.hostname or "localhost"
        self._port = split.port or _PORTS[split.scheme]
        self._user = unquote(split.username or "")
        self._password = unquote(split.password or "")
        self._sender = sender
        # Who we are to the mail server; the name of the machine is nobody's business.
        self._domain = sender.rpartition("@")[2]

    def send(self, recipient: str, subject: str, text: str) -> None:
        """Hand one mail over; blocks for seconds. Raises MailNotSent."""
        message = EmailMessage()
        message["From"] = self._sender
        message["To"] = recipient
        message["Subject"] = subject
        message.set_content(text)
        try:
            with self._connect() as connection:
                connection.send_message(message)
        except (smtplib.SMTPException, OSError) as error:
            raise MailNotSent(type(error).__name__) from error

    def _connect(self) -> smtplib.SMTP:
        trusted = ssl.create_default_context()
        if self._is_tls:
            connection: smtplib.SMTP = smtplib.SMTP_SSL(
                self._host, self._port, self._domain, timeout=SECONDS_MAX, context=trusted
            )
        else:
            connection = smtplib.SMTP(self._host, self._port, self._domain, timeout=SECONDS_MAX)
        try:
            connection.ehlo()
            is_private = self._is_tls or _is_loopback(self._host)
            if not self._is_tls and connection.has_extn("starttls"):
                connection.starttls(context=trusted)
                connection.ehlo()
                is_private = True
            if self._user:
                if not is_private:
                    raise MailNotSent("the mail server offers no TLS, and a password is not sent without")
                connection.login(self._user, self._password)
        except BaseException:
            connection.close()
            raise
        return connection


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
