"""Pages with the structure that each generator of manuals gives its own."""

SPHINX_PAGE = """<!DOCTYPE html><html><head><title>bisect &#8212; Manual</title>
<script>var hidden=1</script></head>
<body><div class="mobile-nav"><nav role="navigation"><form role="search"><input value="Go"></form>menu</nav>
</div>
<div class="related" role="navigation"><h3>Navigation</h3><ul><li><a href="genindex.html">index</a></li>
</ul></div>
<div class="document"><div class="documentwrapper"><div class="bodywrapper"><div class="body" role="main">
<section id="m">
<h1><code><span class="pre">bisect</span></code> — Sorting<a class="headerlink" href="#m">¶</a></h1>
<aside class="sidebar"><p class="sidebar-title">Hello World</p><p>A sidebar of the text.</p></aside>
<p>The <em>key</em>_word argument <span>un</span>broken of <a class="reference" href="x.html">insort()</a>
<code>cd</code>
into it.</p><dl class="py function"><dt id="f"><code>bisect_left</code>(<em>a</em>, *)<a class="headerlink"
href="#f" title="Permalink">¶</a></dt><dd><p>Locate the point.</p></dd></dl>
<div class="highlight"><pre><span></span><span class="gp">&gt;&gt;&gt; </span>x_y = "*"
    indented &lt;tag&gt;</pre></div><table><tr><th>a_b</th><th>long</th></tr><tr><td>1*2</td>
<td>wide cell</td></tr></table>
<div class="admonition note"><p class="admonition-title">Note</p><p>Mind this.</p></div></section></div>
</div></div>
<div class="sphinxsidebar" role="navigation"><h3>Table of Contents</h3><p class="topless">Previous topic</p>
</div></div>
<div class="related" role="navigation">modules</div>
<div class="footer">&copy; Copyright 2001, the Foundation.</div>
<script>documentation_options = {}</script></body></html>"""

DOCBOOK_PAGE = """<html xmlns="http://www.w3.org/1999/xhtml"><head><title>SELECT</title></head>
<body id="docContent">
<div class="navheader"><table summary="Navigation header"><tr>
<td><a accesskey="p" href="a.html">Prev</a></td>
<th>SQL Commands</th></tr></table><hr /></div><div class="refentry"><a id="i" class="indexterm"></a>
<div class="refnamediv"><h2><span class="refentrytitle">SELECT</span></h2>
<p>retrieve rows — from a table</p></div>
<pre class="synopsis">SELECT [ ALL | <em class="replaceable"><code>name</code></em> ]
    [ WHERE <em class="replaceable"><code>condition</code></em> ]</pre><div class="toc">
<dl><dt>1. Part</dt></dl></div>
<p>See <a class="xref" href="b.html">Section 9.1</a>.</p></div><div class="navfooter"><hr /><table><tr>
<td>Next</td>
<td>Home</td></tr></table></div></body></html>"""

MKDOCS_PAGE = """<!doctype html><html><head><title>Guide</title><style>.hidden{}</style></head>
<body><a class="md-skip" href="#g">
Skip to content</a><header class="md-header"><nav class="md-header__inner">Project Search</nav></header>
<div class="md-container"><nav class="md-tabs">Tabs</nav><main class="md-main"><div class="md-main__inner">
<div class="md-sidebar md-sidebar--primary"><nav>Sidebar Home</nav></div><div class="md-content">
<article class="md-content__inner">
<a href="edit.md" class="md-content__button">Edit this page</a>
<h1 id="g">Guide<a class="headerlink" href="#g">&para;</a></h1>
<p>Install it first.</p><div class="tabbed-set"><input type="radio"><label>Linux</label>
<div>apt install</div></div>
<details><summary>More</summary><p>Folded text.</p></details></article></div></div></main>
<footer class="md-footer">Made with a theme</footer></div></body></html>"""

HTML5_PAGE = """<!doctype html><html><head><title> Plain
page </title></head><body><header data-test="chrome"><p>Site name</p></header>
<nav data-test="chrome">Menu</nav>
<aside data-test="chrome"><a href="x">Elsewhere</a> <a href="y">Archive</a></aside>
<article><header><h1>Heading</h1><p>By the author</p></header><p>Body text. <a href="z">Link</a></p>
<form><fieldset><legend>Form</legend><label>Field label</label><input name="q"></fieldset></form>
<aside>A remark beside the text.</aside><footer>Notes of the article</footer></article><section>
<p>Second part.</p></section>
<p>H<sub>2</sub>O <b>b</b>old <math><mi>x</mi></math></p><p hidden data-test="chrome">concealed</p>
<div role="contentinfo" data-test="chrome">Imprint</div>
<footer data-test="chrome">All rights reserved</footer></body></html>"""
