"""A message gives its fields, its best text and its attachments; what cannot be read is said by name."""

from __future__ import annotations

from email.message import EmailMessage

import pytest

from embedfleet.account_codes import Code
from embedfleet.errors import ParseError
from embedfleet.parsing.formats import Format, ParsedDocument
from embedfleet.parsing.signatures import text_format_from
from support.reading import read_as

BODY = "Bitte schließt die Schleuse bis fünf Uhr."


def message(**fields: str) -> EmailMessage:
    made = EmailMessage()
    for name, value in {"From": "mill@example.org", "Subject": "Schleuse – dringend", **fields}.items():
        made[name.replace("_", "-")] = value
    return made


def read(made: EmailMessage) -> ParsedDocument:
    return read_as(Format.MAIL, made.as_bytes())


def codes(document: ParsedDocument) -> set[Code]:
    return {entry.code for entry in document.account.entries} - {Code.MAIL_FIELD}


def test_the_fields_that_people_see_and_the_decoded_body_are_the_text() -> None:
    made = message(To="crew@example.org", X_Mailer="pine")
    made.set_content(BODY, charset="iso-8859-1", cte="quoted-printable")
    document = read(made)
    assert document.title == "Schleuse – dringend"
    assert document.text == (
        f"From: mill@example.org\nTo: crew@example.org\nSubject: Schleuse – dringend\n\n{BODY}\n\n"
    )


def test_of_two_forms_of_a_text_the_plain_one_is_read_unless_it_is_a_stub() -> None:
    made = message()
    made.set_content(BODY)
    made.add_alternative(f"<p>{BODY}</p>", subtype="html")
    assert read(made).text.endswith(f"\n\n{BODY}\n\n")
    assert codes(read(made)) == {Code.MAIL_OTHER_FORM}
    stub = message()
    stub.set_content("See the page.")
    stub.add_alternative(f"<h1>Mill</h1><p>{BODY * 5}</p>", subtype="html")
    assert f"# Mill\n\n{BODY}" in read(stub).text


def test_styles_beside_the_form_that_is_not_taken_are_no_text() -> None:
    made = message()
    made.set_content(BODY)
    made.add_alternative(f"<p>{BODY}</p>", subtype="html")
    page = made.get_payload(1)
    assert isinstance(page, EmailMessage)
    page.add_related("p { color: red }", subtype="css")
    page.add_related("gate,depth\nfour,6.0\n", subtype="csv", filename="gates.csv", disposition="inline")
    document = read(made)
    assert "color" not in document.text
    assert document.text.endswith(f"\n\n{BODY}\n\n\n\n# Attachment: gates.csv\n\ngate: four\ndepth: 6.0\n")
    assert codes(document) == {Code.MAIL_OTHER_FORM, Code.MAIL_INLINE}


def test_attachments_go_through_the_readers_of_their_formats() -> None:
    made = message()
    made.set_content("See below.")
    made.add_attachment("gate,depth\nfour,6.0\n", subtype="csv", filename="gates.csv")
    made.add_attachment(b"\x89PNG\r\n\x1a\n", maintype="image", subtype="png", filename="gate.png")
    inner = message(Subject="The older one")
    inner.set_content("It rang at noon.")
    made.add_attachment(inner)
    document = read(made)
    assert "# Attachment: gates.csv\n\ngate: four\ndepth: 6.0" in document.text
    assert "# Message: The older one" in document.text
    assert "It rang at noon." in document.text
    assert document.title == "Schleuse – dringend"
    (lost,) = document.account.lost
    assert (lost.code, lost.places) == (Code.MAIL_ATTACHMENT, ("gate.png (image/png)",))


def test_flowed_text_is_joined_and_signatures_are_left_out_and_encrypted_parts_lost() -> None:
    flowed = message()
    flowed.set_content("The wheel \nturned.\n", params={"format": "flowed"})
    assert "The wheel turned." in read(flowed).text
    signed = message()
    signed.set_content(
        "-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\nIt rang.\n"
        "-----BEGIN PGP SIGNATURE-----\niQIz\n-----END PGP SIGNATURE-----\n"
    )
    assert read(signed).text.endswith("\n\nIt rang.\n\n")
    assert codes(read(signed)) == {Code.MAIL_SIGNATURE}
    secret = message()
    secret.set_content("-----BEGIN PGP MESSAGE-----\nhQEM\n-----END PGP MESSAGE-----\n")
    assert codes(read(secret)) == {Code.MAIL_ENCRYPTED}


def test_a_mailbox_is_its_messages_and_a_sentence_begins_none() -> None:
    one, two = message(Subject="One"), message(Subject="Two")
    one.set_content("It rang.\n\nFrom there it went on.")
    two.set_content("It stopped.")
    start = b"From ann@example.org Fri Jan  2 10:00:00 2026\n"
    document = read_as(Format.MAILBOX, start + one.as_bytes() + b"\n" + start + two.as_bytes())
    assert [line for line in document.text.splitlines() if line.startswith("#")] == ["# One", "# Two"]
    assert dict(document.account.found)["messages"] == 2
    with pytest.raises(ParseError, match="is not a mailbox"):
        read_as(Format.MAILBOX, b"no message\n")


def test_mail_is_recognised_only_if_it_is_unmistakable() -> None:
    made = message(Message_ID="<1@example.org>")
    made.set_content(BODY)
    assert text_format_from(made.as_bytes()) is Format.MAIL
    assert text_format_from(b"From: here\nto: there\n\nA letter.\n") is None


def test_rtf_is_read_in_its_code_page_and_what_is_hidden_is_said() -> None:
    rtf = rb"{\rtf1\ansi\ansicpg1250 \'9e\'e6 and \u8211? \b bold\b0  text{\v secret}\par Second\par}"
    document = read_as(Format.RTF, rtf)
    assert document.text == "žć and – bold text\n\nSecond\n"
    assert codes(document) == {Code.HIDDEN}
    with pytest.raises(ParseError, match="is not RTF"):
        read_as(Format.RTF, b"plain")
