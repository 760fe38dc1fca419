"""What people do on the page, done in a real browser."""

import json
import re

import pytest

from service.page.conftest import picture, serving

pytestmark = pytest.mark.slow
expect = pytest.importorskip("playwright.sync_api", reason="SKIPPED: the page is tested with Playwright").expect


def test_a_newcomer_enrols_a_face_in_place_and_it_is_named_at_once(visit):
    here = visit()
    page = here.open()
    here.drop(1)
    expect(page.locator("#face-0")).to_contain_text("Nobody is enrolled yet.")
    expect(page.locator("#face-0")).to_contain_text("Happiness")
    page.locator("#face-0 input").fill("Ada Berg")
    page.get_by_role("button", name="Enrol", exact=True).click()
    expect(page.locator("#face-0 h3")).to_contain_text("Ada Berg")
    expect(page.get_by_role("button", name=re.compile("Face 1: .Ada Berg., score 1"))).to_be_visible()
    assert here.names() == ["Ada Berg"]
    page.get_by_role("button", name="Undo").click()
    expect(page.locator("#face-0 h3")).not_to_contain_text("Ada Berg")
    assert here.names() == []


def test_a_picture_dropped_before_the_page_knows_the_service_shows_its_expression_too(visit):
    here, held = visit(), []

    def the_first_waits(route):
        held.append(route)
        if len(held) > 1:
            route.continue_()

    here.page.route("**/v1/session", the_first_waits)
    page = here.open()
    here.drop(1)
    expect(page.locator("#face-0")).to_contain_text("Happiness")
    held[0].continue_()


def test_names_come_with_the_error_rate_and_strangers_with_a_reason(visit):
    here = visit()
    here.enrol("ada", picture(1, seed=5))
    page = here.open()
    here.drop(1, 2, quality=0.4)
    expect(page.locator("#face-0 h3")).to_contain_text("ada")
    expect(page.locator("#face-0")).to_contain_text("one stranger in 1,000 would pass too")
    page.get_by_role("button", name="Details of face 2").click()
    expect(page.locator("#face-1")).to_contain_text(re.compile(r"The nearest is .ada. with -?0\.\d+; 0\.600 is needed"))
    expect(page.locator("#face-1")).to_contain_text("The face is hard to compare (blurred)")


@pytest.mark.parametrize("how", ["drop", "paste"])
def test_a_photo_that_is_dropped_or_pasted_anywhere_is_looked_at(visit, how):
    here = visit()
    page = here.open("settings")
    page.evaluate(
        """([how, bytes]) => {
          const files = new DataTransfer();
          files.items.add(new File([new Uint8Array(bytes)], 'a.png', { type: 'image/png' }));
          const options = { bubbles: true, cancelable: true, dataTransfer: files, clipboardData: files };
          document.body.dispatchEvent(new (how === 'drop' ? DragEvent : ClipboardEvent)(how, options));
        }""",
        [how, list(picture(1, 2))],
    )
    expect(page.get_by_role("heading", name="2 faces")).to_be_visible()
    assert page.url.endswith("#/try")


def test_the_face_that_is_enrolled_is_the_one_whose_name_was_typed(visit):
    here = visit()
    page = here.open()
    here.drop(1, 2, 3)
    page.locator("#face-2 input").fill("third")
    page.locator("#face-2 button.primary").click()
    expect(page.locator("#face-2 h3")).to_contain_text("third")
    expect(page.locator("#face-0 h3")).not_to_contain_text("third")


def test_what_cannot_be_read_is_said_in_the_service_s_own_sentence(visit):
    here = visit()
    page = here.open()
    page.locator("main input[type=file]").first.set_input_files(
        {"name": "a.png", "mimeType": "image/png", "buffer": b"not a picture"}
    )
    expect(page.get_by_role("alert")).to_contain_text("is no picture that mien knows")
    here.wrong = [line for line in here.wrong if "422" not in line]


def test_a_person_is_renamed_and_named_back(visit):
    here = visit()
    ada = here.enrol("ada", picture(1))
    page = here.open(f"people/{ada['id']}")
    page.get_by_role("button", name="Rename").click()
    page.get_by_label("Name", exact=True).fill("Ada Lovelace")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("Ada Lovelace")
    page.get_by_role("button", name="Undo").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("ada")
    assert here.names() == ["ada"]


def test_two_people_are_merged_and_parted_again(visit):
    here = visit()
    here.enrol("ada", picture(1, seed=1), picture(1, seed=2))
    here.enrol("bob", picture(2))
    page = here.open("people")
    for name in ("ada", "bob"):
        page.get_by_role("checkbox", name=re.compile(name)).check()
    page.get_by_role("button", name=re.compile("Merge into .ada")).click()
    expect(page.get_by_text("3 samples")).to_be_visible()
    assert here.names() == ["ada"]
    page.get_by_role("button", name="Undo").click()
    expect(page.get_by_text("2 people")).to_be_visible()
    assert here.names() == ["ada", "bob"]


def test_the_audit_asks_and_one_click_repairs(visit):
    here = visit()
    here.enrol("ada", picture(1, seed=1), picture(1, seed=2))
    here.enrol("adda", picture(1, seed=3))
    page = here.open("people")
    question = page.locator(".question", has_text="One person under two names?")
    question.get_by_role("button", name=re.compile("Same, keep .ada.$")).click()
    expect(question).to_have_count(0)
    assert here.names() == ["ada"]


def test_a_sample_that_is_somebody_else_s_is_given_another_name(visit):
    here = visit()
    ada = here.enrol("ada", picture(1), picture(2, seed=1))
    page = here.open(f"people/{ada['id']}")
    page.get_by_role("button", name="Not this person").nth(1).click()
    page.get_by_label("Whose face is it?").fill("bob")
    page.get_by_role("button", name="Move", exact=True).click()
    expect(page.locator(".sample")).to_have_count(1)
    assert here.names() == ["ada", "bob"]


def test_erasing_shows_its_proof(visit):
    here = visit()
    ada = here.enrol("ada-to-be-erased", picture(1))
    page = here.open(f"people/{ada['id']}")
    page.get_by_role("button", name="Erase", exact=True).click()
    page.get_by_role("button", name="Erase for good").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("All files were searched afterwards, and nothing was found.")
    expect(dialog).to_contain_text("1 samples, 1 templates, 1 pictures")
    dialog.get_by_role("button", name="Close").last.click()
    expect(page.get_by_role("heading", name="Nobody is enrolled yet")).to_be_visible()
    assert here.names() == []


def test_two_pictures_are_compared(visit):
    here = visit()
    page = here.open("compare")
    for slot, person in (("a", 1), ("b", 2)):
        page.locator(f"[data-slot={slot}] input").set_input_files(
            {"name": "a.png", "mimeType": "image/png", "buffer": picture(person)}
        )
    expect(page.get_by_role("heading", name="Not shown to be one person")).to_be_visible()
    page.locator("[data-slot=b] input").set_input_files(
        {"name": "a.png", "mimeType": "image/png", "buffer": picture(1, seed=9)}
    )
    expect(page.get_by_role("heading", name="The same person")).to_be_visible()


def test_a_folder_becomes_a_job_whose_refusals_have_reasons(visit, tmp_path):
    here = visit(viewport={"width": 360, "height": 740})
    for name, data in {"ada/1.png": picture(1), "bob/1.png": picture(2), "bob/2.png": b"broken"}.items():
        path = tmp_path / "people" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    page = here.open("jobs")
    page.get_by_label("Choose a folder").set_input_files(tmp_path / "people")
    job = page.get_by_role("article")
    expect(job).to_contain_text("Done")
    expect(job).to_contain_text("added 2")
    expect(job.get_by_role("row", name=re.compile("2.png"))).to_contain_text("is no picture that mien knows")
    assert here.names() == ["ada", "bob"]
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_a_group_is_named_and_all_of_its_faces_are_enrolled(visit, tmp_path):
    here = visit()
    for number in range(3):
        (tmp_path / f"{number}.png").write_bytes(picture(1, 2, seed=number))
    page = here.open("group")
    page.get_by_label("Choose photographs").set_input_files(sorted(tmp_path.glob("*.png")))
    clusters = page.locator(".cluster")
    expect(clusters).to_have_count(2)
    clusters.first.get_by_role("combobox").fill("ada")
    clusters.first.get_by_role("button", name="Enrol").click()
    expect(clusters.first).to_contain_text("3 faces are enrolled.")
    assert here.names() == ["ada"]


def test_the_slider_of_the_threshold_shows_the_rates_of_this_gallery(visit):
    here = visit()
    here.enrol("ada", picture(1, seed=1), picture(1, seed=2))
    here.enrol("bob", picture(2, seed=1), picture(2, seed=2))
    page = here.open("settings")
    rates = page.locator(".rates")
    slider = page.get_by_role("slider")
    slider.press("Home")
    expect(rates).to_contain_text(re.compile(r"100%\s*of strangers pass"))
    slider.press("End")
    expect(rates).to_contain_text(re.compile(r"0%\s*of strangers pass"))
    page.get_by_role("button", name="Decide at this threshold").click()
    rule = json.loads(page.evaluate("localStorage.getItem('mien.rule')"))
    assert 0 < rule["threshold"] <= 1


def test_the_camera_shows_boxes_and_sends_one_frame_at_a_time(visit):
    here = visit(permissions=["camera"])
    here.enrol("stand-in", picture(99))
    waiting, most = set(), []
    page = here.page
    page.on(
        "request", lambda request: "v1/identify" in request.url and (waiting.add(request), most.append(len(waiting)))
    )
    for end in ("requestfinished", "requestfailed"):
        page.on(end, lambda request: waiting.discard(request))
    here.open()
    page.get_by_role("button", name="Use the camera").click()
    expect(page.locator(".tag")).to_have_text("stand-in")
    expect(page.locator("[data-live=on]")).to_contain_text("answers a second")
    expect(page.get_by_role("article")).to_contain_text("stand-in")
    page.get_by_role("button", name="Stop").click()
    expect(page.get_by_role("heading", name="Drop a photo anywhere")).to_be_visible()
    assert max(most) == 1


def test_everything_can_be_done_with_the_keyboard_alone(visit):
    here = visit()
    page = here.open()
    here.drop(1, 2)
    page.locator("body").press("Tab")

    def walk(wanted, key="Tab", most=60):
        for _ in range(most):
            told = page.evaluate(
                "document.activeElement?.getAttribute('aria-label') ?? document.activeElement?.innerText"
            )
            if re.search(wanted, told or "") and page.evaluate("document.activeElement !== document.body"):
                outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
                return outline
            page.keyboard.press(key)
        raise AssertionError(f"Tab does not lead to {wanted}")

    walk("^Face 2: unknown")
    page.keyboard.press("Enter")
    expect(page.locator("#face-1")).to_have_class(re.compile("on"))
    page.locator("#face-1 input").focus()
    page.keyboard.type("bob")
    page.keyboard.press("Enter")
    expect(page.locator("#face-1 h3")).to_contain_text("bob")
    page.locator("a.skip").focus()
    assert walk("^People$") != "none", "what has the focus is to be seen"
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1, name="People")).to_be_focused()


def test_a_service_with_keys_asks_for_one_and_shows_its_pictures_then(visit, tmp_path):
    with serving(tmp_path / "locked") as (core, address):
        key = core.keys.create({"*": "admin"})[1]
        here = visit(at=address)
        page = here.open("people")
        expect(page.get_by_role("main")).to_contain_text("This service asks for a key.")
        here.open("settings")
        page.get_by_label("Key", exact=True).fill("mien_wrong")
        page.get_by_role("button", name="Use this key").click()
        expect(page.get_by_role("alert").first).to_contain_text("does not know this key")
        page.get_by_label("Key", exact=True).fill(key)
        page.get_by_role("button", name="Use this key").click()
        expect(page.get_by_role("main")).to_contain_text("Known as")
        here.open()
        here.drop(1)
        page.locator("#face-0 input").fill("ada")
        page.keyboard.press("Enter")
        expect(page.locator("#face-0 h3")).to_contain_text("ada")
        here.open("people")
        expect(page.locator(".avatar img")).to_have_attribute("src", re.compile("^blob:"))
        assert page.evaluate("JSON.stringify(localStorage)").find(key) < 0
        here.wrong = [line for line in here.wrong if "401" not in line]
        here.context.close()


def test_a_key_that_may_only_read_is_offered_no_changes(visit, tmp_path):
    with serving(tmp_path / "locked") as (core, address):
        key = core.keys.create({"default": "read"})[1]
        here = visit(at=address)
        here.context.add_init_script(f"sessionStorage.setItem('mien.key', '{key}')")
        page = here.open()
        here.drop(1)
        expect(page.locator("#face-0")).to_contain_text("Nobody is enrolled yet.")
        expect(page.get_by_role("button", name="Enrol", exact=True)).to_have_count(0)
        here.open("people")
        expect(page.get_by_role("heading", name="Nobody is enrolled yet")).to_be_visible()
        expect(page.get_by_role("button", name="Add a person")).to_have_count(0)
        here.context.close()


def test_the_language_is_switched_and_kept(visit):
    here = visit()
    page = here.open()
    page.get_by_role("button", name=re.compile("Language")).first.click()
    expect(page.get_by_role("heading", level=1)).to_have_text("这是谁？")
    assert page.evaluate("document.documentElement.lang") == "zh-CN"
    page.reload()
    expect(page.get_by_role("heading", level=1)).to_have_text("这是谁？")


def test_a_browser_that_prefers_chinese_is_greeted_in_chinese(visit):
    page = visit(locale="zh-CN").open("people")
    expect(page.get_by_role("heading", level=1)).to_have_text("人物")


def test_every_screen_fits_a_phone_and_has_all_of_its_words(visit):
    here = visit(viewport={"width": 360, "height": 740})
    ada = here.enrol("somebody with a rather long name", picture(1), picture(2, seed=1))
    here.enrol("bob", picture(1, seed=2))
    person = f"people/{ada['id']}"
    for screen in ("people", person, "compare", "group", "jobs", "generate", "settings", "try"):
        page = here.open(screen)
        page.wait_for_load_state("networkidle")
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), screen
        shown = page.locator("body").inner_text()
        assert not re.findall(r"(?m)^(?!openapi.json)[a-z]+(?:\.[a-z_]+)+$|undefined|\[object", shown), screen
    here.drop(1, 2)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    expect(page.locator(".tabbar")).to_be_visible()


def test_a_photo_in_which_no_face_was_found_is_not_called_hidden(visit):
    page = visit().open("generate")
    page.get_by_role("button", name="Hide").click()
    page.locator("[data-slot=hide] input").set_input_files(
        {"name": "a.png", "mimeType": "image/png", "buffer": picture()}
    )
    expect(page.get_by_role("status").filter(has_text="nothing was hidden")).to_be_visible()
    expect(page.get_by_role("button", name="Save")).to_be_enabled()


def test_a_name_with_markup_stays_a_name(visit):
    here = visit()
    name = '<img src=x onerror="document.title=1">'
    here.enrol(name, picture(1))
    page = here.open("people")
    expect(page.get_by_role("link", name=name)).to_be_visible()
    assert page.title() == "People · mien"
